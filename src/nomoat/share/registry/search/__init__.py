"""The gallery's search: what one can ask for, the index that answers, and how a page of it is found."""

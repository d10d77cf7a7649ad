"""Things in a folder for a USB stick: an OCI image layout that skopeo and oras read, too."""

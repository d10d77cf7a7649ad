"""OpenAI's Responses API: conversations whose earlier turns the server keeps."""

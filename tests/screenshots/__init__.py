"""The pictures of the README are the screens of the app."""

"""The dashboard as people meet it: in a browser, on small and large screens, light and dark, with a keyboard."""

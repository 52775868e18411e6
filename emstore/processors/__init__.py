"""The processors that come with emstore. Each is found by its entry point, like a third party's."""

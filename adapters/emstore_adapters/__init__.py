"""File formats that come with emstore; each joins through the same entry points as a third party's."""

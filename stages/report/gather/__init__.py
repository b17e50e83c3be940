"""Every number on the page, gathered from what the stages left."""

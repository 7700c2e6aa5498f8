"""What servers of ours keep on disk: a directory, and records that tell damage."""

"""What daemons make of each other: seeded scenarios on networks out of namespaces."""

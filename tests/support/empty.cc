// Keeps the library from being empty while no other support file exists.

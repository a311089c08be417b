"""The imperative shell: daemon, shim, trainer process, store, services, command line. It may touch everything."""

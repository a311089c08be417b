"""The imperative shell: daemon, shim, trainer process, store, services, command line, reports. It may touch everything."""

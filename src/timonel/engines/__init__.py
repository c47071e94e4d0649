"""Where the methods of one shared object run: processes of this machine, for now."""

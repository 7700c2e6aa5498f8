"""The substituter: speaks with the Guix daemon, brings items from ERIS blocks, else over HTTP."""

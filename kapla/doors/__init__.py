"""Doors for Python programs: contents and trees as files, without a line of asyncio.

`kapla.doors.sync` is for programs as they are; `kapla.doors.filesystem` is `eris://` for fsspec,
and so for pandas, pyarrow, dask, zarr and others.
"""

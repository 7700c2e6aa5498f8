"""`kapla doctor`: the usual troubles, and how to mend each.

`gathering.py` and the modules beside it look around, and change nothing. What they see is in
`facts.py`. The checks, in `checks/`, are pure: facts in, findings out. To add one, put a fact
where it is gathered, and a function into the tuple of its module.
"""

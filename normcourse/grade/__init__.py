"""The instructor's side: `python -m normcourse.grade SUBMISSIONS --out GRADES` grades a folder of submitted notebooks.

collect    what was handed in: folders, zips, the downloads of Moodle and Canvas
notebook   one submission: its cells, which of them are graded, and what the rules say about their code
judge      draws the cases, sends them to the sandbox, compares what comes back; never runs a learner's code
sandbox    the judge's end of the sandbox; confine, server: inside it; wire: what goes between
report     tables, pages and pictures
gradebook  scores into a gradebook of nbgrader
"""

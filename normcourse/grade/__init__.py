"""The instructor's side: `python -m normcourse.grade SUBMISSIONS --out GRADES` grades a folder of submitted notebooks.

collect    what was handed in: folders, zips, the downloads of Moodle and Canvas
notebook   one submission: its cells, which of them are graded, and whether they reach for the judge's machinery
judge      draws the cases, sends them to the sandbox, compares what comes back; never runs a learner's code
sandbox    the judge's end of the sandbox; wire: what goes between; inside it:
           server (forks and runs), confine (takes rights away), closed (takes away what a task forbids)
hidden     the hidden tests of a folder, and the points for them
report     pages and pictures; tables: for spreadsheets, Moodle and Canvas
gradebook  scores into a gradebook of nbgrader
"""

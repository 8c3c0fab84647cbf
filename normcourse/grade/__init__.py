"""The instructor's side: `python -m normcourse.grade SUBMISSIONS --out GRADES` grades a folder of submitted notebooks.

collect    what was handed in: folders and zips; layouts: whose it is, as Moodle, Canvas and Blackboard name it
notebook   one submission: its cells, which of them are graded, and whether they reach for the judge's machinery
judge      draws the cases, sends them to the sandbox, compares what comes back; never runs a learner's code
sandbox    the judge's end of the sandbox; wire: what goes between; inside it:
           server (forks and runs), confine (takes rights away), closed (takes away what a task forbids)
hidden     the hidden tests of a folder, and the points for them
variants   constants of each learner's own, chosen from an id
report     the pages, made with page, text (of learners, made harmless), titles (of tasks) and totals
alike      answers that are the same up to names, side by side; scores: which submission counts
tables     for spreadsheets; lms: what Moodle, Canvas and Blackboard import
gradebook  scores into a gradebook of nbgrader
"""

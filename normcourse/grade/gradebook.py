"""Scores into a gradebook of nbgrader, beside what it knows already: essays stay to be marked in formgrader, and marks
given there by hand are kept."""

import os
import sys
import warnings
from collections import Counter
from pathlib import Path

from .scores import best


def write_gradebook(results, exam, database):
    """Write the points of all graded submissions.

    Args:
        results: as `Run.grade` returns them; of several by one learner for one exercise the best counts.
        database: path of gradebook.db; it is made if it is not there.

    Returns: how many submissions were written. Raises: ModuleNotFoundError without nbgrader.
    """
    from nbgrader.api import Gradebook

    # It runs alembic to make a new database, which lies beside this Python whether or not the shell knows.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    students, written = student_ids(best(results)), 0
    with warnings.catch_warnings(), Gradebook(f"sqlite:///{database}") as book:
        warnings.simplefilter("ignore")  # of SQLAlchemy about nbgrader's own code
        for exercise, (tasks, essays) in exam.exercises.items():
            own = [result for result in results if result.get("exercise") == exercise]
            if own:
                _prepare(book, exercise, tasks, essays)
            for (learner, number), submissions in best(own).items():
                _enter(book, exercise, students[learner, number], submissions[exercise])
                written += 1
    return written


def student_ids(people):
    """{(learner, id): a name for this one alone}: the learner's own, with the id behind it where several share it."""
    count, taken, students = Counter(learner for learner, _ in people), set(), {}
    for learner, number in sorted(people, key=lambda who: (count[who[0]] > 1, who)):  # first those with an own name
        student = f"{learner} ({number})" if count[learner] > 1 and number else learner
        while student in taken:
            student = f"{student} ({number})"
        taken.add(student)
        students[learner, number] = student
    return students


def _prepare(book, exercise, tasks, essays):
    """The exercise and its cells, as `nbgrader generate_assignment` enters them."""
    book.update_or_create_assignment(exercise)
    book.update_or_create_notebook(exercise, exercise)
    for name, task in tasks.items():
        book.update_or_create_grade_cell(_cell(name), exercise, exercise, max_score=task.points, cell_type="code")
    for name, points in essays.items():
        book.update_or_create_grade_cell(name, exercise, exercise, max_score=points, cell_type="markdown")
        book.update_or_create_solution_cell(name, exercise, exercise)


def _enter(book, exercise, learner, result):
    book.update_or_create_student(learner)
    book.update_or_create_submission(exercise, learner)
    for name, task in result["tasks"].items():
        grade = book.find_grade(_cell(name), exercise, exercise, learner)
        grade.auto_score, grade.needs_manual_grade = task["points"], False
    for name, essay in result["essays"].items():
        grade = book.find_grade(name, exercise, exercise, learner)
        if grade.manual_score is None:  # nothing written is nothing to mark
            grade.auto_score, grade.needs_manual_grade = (None, True) if essay["characters"] else (0.0, False)
    book.db.commit()


def _cell(task):
    """The locked cell that calls `check` carries the points: see tools/build_exercises.py."""
    return f"{task}_check"

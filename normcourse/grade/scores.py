"""Which submission of a learner counts, and what it is worth."""


def best(results):
    """(learner, id) -> {exercise: result}, of several submissions for the same exercise that with the most points. What
    could not be graded stands under None."""
    found = {}
    for result in results:
        own = found.setdefault((result["learner"], result["id"]), {})
        known = own.get(result.get("exercise"))
        if known is None or result["points"] > known["points"]:
            own[result.get("exercise")] = result
    return found


def is_counted(result, counting):
    """Whether a submission is the one that counts. counting: as `best` returns it."""
    return result["status"] == "graded" and counting[result["learner"], result["id"]][result["exercise"]] is result


def worth(exam, exercise):
    """(points of its programming, points of its essays)."""
    tasks, essays = exam.exercises[exercise]
    return sum(task.points for task in tasks.values()), sum(essays.values())


def shown(points):
    return f"{points:g}"

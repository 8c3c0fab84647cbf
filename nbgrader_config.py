# For nbgrader: how it releases these exercises, and where formgrader finds the essays to mark.
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "normcourse"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"
c.CourseDirectory.ignore = [".ipynb_checkpoints", "__pycache__", "*.pyc", "*.py", "*.md", "feedback"]
MESSAGE = "在这里写你的代码 · your code goes here"
c.ClearSolutions.code_stub = {"python": f'raise NotImplementedError("{MESSAGE}")'}
c.ClearSolutions.text_stub = "在这里写 · Write here"

"""Sphinx's settings for the site, see `tools.site`; the language comes from the environment."""

import os

import tools

CODE = os.environ["NORMCOURSE_SITE"]
project = "NormCourse"
author = "NormCourse"
copyright = "NormCourse: code MIT, prose and pictures CC BY 4.0"
release = tools.version()
language = {"zh": "zh_CN", "en": "en", "both": "zh_CN"}[CODE]
extensions = ["myst_nb", "sphinx.ext.autodoc", "tools.site.sphinx_ext"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = (
    ("Show the code", "Hide the code") if CODE == "en" else ("显示代码", "收起代码")
)
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_inline"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_inherit_docstrings = False
add_module_names = False
templates_path = ["templates"]
html_theme = "sphinx_book_theme"
html_title = {"zh": "NormCourse", "en": "NormCourse", "both": "NormCourse"}[CODE]
html_favicon = os.path.join(os.environ["NORMCOURSE_STATIC"], "favicon.svg")
html_math_renderer = "mathml"
html_static_path = [os.environ["NORMCOURSE_STATIC"]]
html_css_files = ["player.css", "site.css", *(["wide.css"] if CODE == "both" else [])]
html_js_files = [("player.js", {"defer": "defer"}), ("claims.js", {"defer": "defer"}), ("site.js", {"defer": "defer"})]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_use_index = False
html_domain_indices = False
html_theme_options = {
    "article_header_end": ["language.html", "article-header-buttons.html"],
    "navbar_persistent": [],
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "secondary_sidebar_items": [] if CODE == "both" else ["page-toc.html"],
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
if tools.repository():
    html_theme_options |= {"repository_url": tools.repository(), "use_repository_button": True}
html_context = {"nc_language": CODE, "default_mode": "auto"}

"""The report of an evaluation as a folder of static files that a browser opens from disk, offline.

    page = ReportPage(folder, title)
    page.add_clip(...)         once a clip; each is written at once
    page.finish(evaluation)    index.html, listening.html and page/

`templates/` holds the HTML for Jinja2, `assets/` the style sheets and scripts, which are copied as they are: plain
CSS and JavaScript without a build step. The scripts are classic ones, since browsers refuse ES modules from disk. Each
adds one object to the global `report`.
"""

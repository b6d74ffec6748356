"""A static page that runs a codec in the browser: its graphs made small, its runtime found, its folder written.

The page itself is written in `web/` at the root of the repository; `bundle/` is what `npm run build` makes of it there.
"""

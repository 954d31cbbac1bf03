"""What the gateway keeps, in files and in its database: sealed when there are payload keys.

`frames` has the format of a sealed file and `streams` files of it to write and to read; `values`
has the columns of the database. `keeping` brings them together with the settings.
"""

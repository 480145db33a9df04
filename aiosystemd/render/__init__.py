"""How to spell each file format; all quoting lives here and only here."""

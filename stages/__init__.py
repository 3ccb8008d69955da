"""One file per stage: Arrow in, Arrow out. The file name is the registration."""

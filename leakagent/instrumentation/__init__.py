"""One file per target library; `patching` applies and undoes what they ask for."""

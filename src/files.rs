//! Opening, reading, mapping and writing files; every error names the path.

//! Loading of whole models and single files against `tests/goldens` (diffusers and ComfyUI
//! layouts written by the reference libraries).

mod single_files;

//! `include/flux_rt.h` is what cbindgen makes of `src/ffi`.

use std::path::Path;

use cbindgen::Builder;
use cbindgen::Config;
use cbindgen::DocumentationStyle;
use cbindgen::ExportConfig;
use cbindgen::Language;
use cbindgen::Style;

const HEADER: &str = "include/flux_rt.h";
const ABOVE: &str = "\
/* FLUX.1 text-to-image: prompt in, picture out.
 *
 * Made by cbindgen from src/ffi: `UPDATE_HEADER=1 cargo test --test ffi header` writes it anew.
 * Link with libflux_rt.a and the system libraries, as include/flux-rt.pc does for pkg-config, or with libflux_rt.so.
 *
 * Nothing is written to stdout, and to stderr only what Rust says of a bug (FLUX_RT_BUG). Functions that are given are
 * called on the calling thread alone. What is not here, but in the program and in Rust: making plans and preparing
 * models for them, comparing pictures, reading a picture's settings back and verifying it, the times of single steps.
 */";

#[test]
fn header_is_that_of_the_sources() {
    // In no function's signature: it is what a number stands for.
    let include = vec!["flux_rt_phase".to_owned()];
    let export = ExportConfig { include, ..ExportConfig::default() };
    let config = Config {
        header: Some(ABOVE.to_owned()),
        include_guard: Some("FLUX_RT_H".to_owned()),
        no_includes: true,
        sys_includes: vec!["stddef.h".to_owned(), "stdint.h".to_owned()],
        language: Language::C,
        cpp_compat: true,
        style: Style::Both,
        usize_is_size_t: true,
        documentation_style: DocumentationStyle::C99,
        line_length: 120,
        export,
        tab_width: 4,
        ..Config::default()
    };
    let sources = ["structs", "status", "options", "request", "picture", "engine", "generate"];
    let source = |name: &str| Path::new("src/ffi").join(name).with_extension("rs");
    let builder = sources
        .iter()
        .fold(Builder::new().with_config(config), |builder, name| builder.with_src(source(name)));
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    if std::env::var_os("UPDATE_HEADER").is_some() {
        flux_rt::files::write_atomic(Path::new(HEADER), made.as_bytes()).unwrap();
    }
    let found = flux_rt::files::read_text(Path::new(HEADER)).unwrap();
    assert!(found == made, "{HEADER} is not that of src/ffi: UPDATE_HEADER=1 writes it anew");
}

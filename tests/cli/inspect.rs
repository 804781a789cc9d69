//! `inspect` of models, weight files and foreign pictures.

use flux_rt::pipeline::RgbImage;
use flux_rt::pipeline::image::encode_png;

use crate::Desk;
use crate::golden;

#[test]
fn a_model_folder_shows_its_networks() {
    let desk = Desk::new();
    let dev = golden("dev");
    let answer = desk.call(["inspect", &*dev.to_string_lossy()]);
    answer.succeeds();
    for part in ["2 double and 2 single blocks, 2 heads of 64, guidance", "BF16", "T5 of 2 layers"]
    {
        assert!(answer.stdout.contains(part), "{}", answer.stdout);
    }
    let json = desk.call(["inspect", &*golden("schnell").to_string_lossy(), "--json"]).json();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["kind"], "model");
    let components = json["components"].as_array().unwrap();
    let names: Vec<_> = components.iter().map(|component| &component["component"]).collect();
    assert_eq!(names, ["transformer", "vae", "text_encoder", "text_encoder_2"]);
    let parameters = components.iter().map(|component| component["parameters"].as_u64().unwrap());
    assert_eq!(parameters.sum::<u64>(), json["total"]["parameters"].as_u64().unwrap());
    assert!(components[0]["sizes"].as_str().unwrap().contains("no guidance"));
}

#[test]
fn a_single_file_and_a_component_folder_are_known_too() {
    let desk = Desk::new();
    for (path, part) in [
        // The sizes of these are not FLUX.1's, and no config.json tells them.
        ("single_files/transformer_bf16.safetensors", "sizes not told without a config.json"),
        ("single_files/ae.safetensors", "  vae "),
        ("single_files/clip_l.safetensors", "CLIP of"),
        ("single_files/t5xxl_fp8_scaled.safetensors", "F8_E4M3"),
        ("dev/vae", "levels of 8-8-16-16"),
        ("dev/transformer", "2 double and 2 single"),
    ] {
        let answer = desk.call(["inspect", &*golden(path).to_string_lossy()]);
        answer.succeeds();
        assert!(answer.stdout.contains(part), "{path}: {}", answer.stdout);
    }
}

#[test]
fn tensors_are_listed_on_demand() {
    let desk = Desk::new();
    let path = golden("noise.safetensors");
    let answer = desk.call(["inspect", &*path.to_string_lossy(), "--tensors"]);
    answer.succeeds();
    assert!(answer.stdout.contains("no network of FLUX.1"), "{}", answer.stdout);
    let json = desk.call(["inspect", &*path.to_string_lossy(), "--tensors", "--json"]).json();
    let tensors = json["tensor_list"].as_array().unwrap();
    assert_eq!(tensors.len() as u64, json["tensors"].as_u64().unwrap());
    let name = tensors[0]["name"].as_str().unwrap();
    assert!(answer.stdout.contains(name));
}

#[test]
fn a_foreign_png_is_called_so() {
    let desk = Desk::new();
    let image = RgbImage { width: 2, height: 1, data: vec![7; 6] };
    desk.file("a.png", &encode_png(&image, &[("Title", "hello")]).unwrap());
    let answer = desk.call(["inspect", "a.png"]);
    answer.succeeds();
    assert!(answer.stdout.contains("2 x 1 pixels, not made by flux-rt"), "{}", answer.stdout);
    assert!(answer.stdout.contains("hello"));
    assert!(desk.call(["inspect", "a.png", "--json"]).json()["settings"].is_null());
}

//! `verify`: a picture made again and compared.

use flux_rt::files;
use flux_rt::pipeline::image::decode_png;
use flux_rt::pipeline::image::encode_png;

use crate::Answer;
use crate::Desk;
use crate::golden;
use crate::receipts::resay;

/// A small picture `a.png` of the golden model `dev`.
fn draw(desk: &Desk, args: &[&str]) {
    desk.small_run(
        "dev",
        &[&["--prompt", "a fox", "--seed", "3", "--out", "a.png"], args].concat(),
    )
    .succeeds();
}

fn verify(desk: &Desk, args: &[&str]) -> Answer {
    let model = golden("dev");
    let start = ["verify", "a.png", "--model", &*model.to_string_lossy()];
    desk.call(start.into_iter().chain(args.iter().copied()))
}

/// Changes the pixels and the width of `a.png`, not its texts.
fn repaint(desk: &Desk, change: impl Fn(&mut Vec<u8>, &mut usize)) {
    let path = desk.path("a.png");
    let (mut image, texts) = decode_png(&files::map(&path).unwrap(), &path).unwrap();
    change(&mut image.data, &mut image.width);
    let texts: Vec<_> = texts.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
    desk.file("a.png", &encode_png(&image, &texts).unwrap());
}

#[test]
fn the_same_pixels_pass() {
    let desk = Desk::new();
    draw(&desk, &["--mode", "S", "--cache", "aggressive", "--cache-warmup", "1"]);
    let answer = verify(&desk, &[]);
    assert_eq!(answer.succeeds().stdout, "a.png: the same, all 1536 pixels\n");
    assert_eq!(answer.stderr, "");
    let json = verify(&desk, &["--json", "--min-psnr", "40"]).succeeds().json();
    assert_eq!((&json["schema_version"], &json["status"]), (&1.into(), &"same".into()));
    assert_eq!((&json["differing_pixels"], &json["pixels"]), (&0.into(), &1536.into()));
    assert_eq!((&json["psnr"], &json["mode"]), (&100.0.into(), &"S".into()));
    assert_eq!(json["notes"], serde_json::json!([]));
    assert_eq!(files::list(desk.folder.path()).unwrap(), ["a.png"], "no file is written");
}

#[test]
fn one_other_pixel_is_found_and_can_be_accepted() {
    let desk = Desk::new();
    draw(&desk, &[]);
    repaint(&desk, |data, _| data[100] = data[100].wrapping_add(128));
    // 10 log10(255^2 * 4608 / 128^2).
    let parts = ["a.png: expected the same pixels", "1 of 1536 pixels", "128 of 255", "42.62 dB"];
    verify(&desk, &[]).fails(7, &[&parts[..], &["hint: ", "--min-psnr"]].concat());
    let answer = verify(&desk, &["--min-psnr", "42.6"]);
    let near = "a.png: near enough, PSNR 42.62 dB of at least 42.6: 1 of 1536 pixels differ, by at \
                most 128 of 255\n";
    assert_eq!(answer.succeeds().stdout, near);
    let parts = ["expected a PSNR of at least 42.7 dB, found 42.62: 1 of 1536 pixels differ"];
    verify(&desk, &["--min-psnr", "42.7"]).fails(7, &parts);
    let answer = verify(&desk, &["--json"]);
    assert_eq!(answer.code, Some(7));
    let json = answer.json();
    assert_eq!((&json["status"], &json["largest_difference"]), (&"different".into(), &128.into()));
    assert!((json["psnr"].as_f64().unwrap() - 42.62).abs() < 0.01, "{json}");
    assert!(answer.stderr.contains("error: a.png: expected the same pixels"), "{}", answer.stderr);
    for wrong in ["-1", "101", "nan", "x"] {
        verify(&desk, &["--min-psnr", wrong]).fails(2, &["expected dB from 0 to 100"]);
    }
}

#[test]
fn other_settings_and_other_weights_are_named() {
    let desk = Desk::new();
    draw(&desk, &[]);
    let answer = verify(&desk, &["--dtype", "bf16", "--mode", "M"]);
    answer
        .fails(7, &["--dtype bf16 instead of the picture's", "--mode M instead of the picture's"]);
    let vae = golden("dev").join("vae");
    std::fs::create_dir(desk.path("vae")).unwrap();
    for name in ["config.json", "diffusion_pytorch_model.safetensors"] {
        let mut content = files::map(&vae.join(name)).unwrap().to_vec();
        if name.ends_with(".safetensors") {
            // The sign of the last weight.
            *content.last_mut().unwrap() ^= 0x80;
        }
        desk.file(&format!("vae/{name}"), &content);
    }
    let note = "note: weights vae/diffusion_pytorch_model.safetensors: SHA-256 ";
    let answer = verify(&desk, &["--vae", "vae", "--min-psnr", "0"]);
    assert!(answer.succeeds().stderr.contains(note), "{}", answer.stderr);
    assert_eq!(answer.stderr.matches("note: ").count(), 1, "{}", answer.stderr);
    resay(&desk, "a.png", |json| {
        json["program_version"] = "0.0.1".into();
        json["tier"] = "sm90".into();
        json["lowered"] = serde_json::json!(["attention"]);
        json.as_object_mut().unwrap().remove("weights");
        json.as_object_mut().unwrap().remove("seed");
    });
    verify(&desk, &[]).fails(
        7,
        &[
            "note: the picture does not say its seed; taking 0\n",
            "note: program_version: 0.0.1 in the picture, 0.1.0 here\n",
            "note: tier: sm90 in the picture, none here\n",
            "note: lowered: [\"attention\"] in the picture, none here\n",
            "note: the picture does not say which weights it was made with\n",
        ],
    );
}

#[test]
fn noise_from_a_file_is_taken_from_the_file_that_is_named() {
    let desk = Desk::new();
    desk.small_run("dev", &["--prompt", "y", "--save-latents", "l.safetensors"]).succeeds();
    draw(&desk, &["--latents", "l.safetensors"]);
    verify(&desk, &["--latents", "l.safetensors"]).succeeds();
    verify(&desk, &["--latents", "gone.safetensors"]).fails(2, &["cannot read gone.safetensors"]);
}

#[test]
fn a_picture_that_was_cut_is_refused() {
    let desk = Desk::new();
    draw(&desk, &[]);
    repaint(&desk, |data, width| {
        data.truncate(16 * 32 * 3);
        *width = 16;
    });
    let parts = ["a.png: expected the 48 x 32 pixels of its settings, found 16 x 32"];
    verify(&desk, &[]).fails(3, &parts);
}

#[test]
fn settings_that_this_model_cannot_have_are_of_the_picture() {
    let desk = Desk::new();
    draw(&desk, &[]);
    let model = golden("schnell");
    let answer = desk.call(["verify", "a.png", "--model", &*model.to_string_lossy()]);
    answer.fails(2, &["error: with the settings of a.png: --guidance: this model has no guidance"]);
}

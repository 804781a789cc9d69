//! The model that is built into the program draws what it is told to.

use std::ops::ControlFlow;

use flux_rt::Error;
use flux_rt::pipeline::Engine;
use flux_rt::pipeline::Event;
use flux_rt::pipeline::Generated;
use flux_rt::pipeline::Request;
use flux_rt::pipeline::RgbImage;

use crate::golden;

fn draw(engine: &mut Engine, prompt: &str, guidance: f32) -> Generated {
    let prompt = Some(prompt.to_owned());
    engine
        .generate(&Request { prompt, guidance: Some(guidance), seed: 42, ..Request::default() })
        .unwrap()
}

/// Mean red, green and blue of a square of `side` pixels at (x, y).
fn mean(made: &Generated, [x, y]: [usize; 2], side: usize) -> [usize; 3] {
    let mut sums = [0; 3];
    for row in y..y + side {
        let first = 3 * (row * made.image.width + x);
        for pixel in made.image.data[first..][..3 * side].chunks_exact(3) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += usize::from(value);
            }
        }
    }
    sums.map(|sum| sum / (side * side))
}

fn demo() -> Engine {
    let folder = golden::data::path("models/demo");
    Engine::builder().model(folder.to_string_lossy()).build().unwrap()
}

#[test]
fn a_red_apple_is_red_on_white_and_a_blue_heart_blue() {
    let mut engine = demo();
    assert_eq!(engine.defaults().prompt, "a red apple");
    let apple = draw(&mut engine, "a red apple", 3.5);
    assert_eq!([apple.image.width, apple.image.height], [128, 128]);
    assert_eq!(apple.settings.steps, 28);
    let [red, green, blue] = mean(&apple, [48, 56], 32);
    assert!(red > 200 && green < 110 && blue < 110, "{red} {green} {blue}");
    for corner in [[0, 0], [120, 0], [0, 120], [120, 120]] {
        let white = mean(&apple, corner, 8);
        assert!(white.iter().all(|&value| value > 235), "{corner:?}: {white:?}");
    }
    let heart = draw(&mut engine, "a blue heart", 3.5);
    let [red, green, blue] = mean(&heart, [48, 48], 32);
    assert!(blue > 150 && blue > red + 60 && blue > green, "{red} {green} {blue}");
}

/// The previews of a request by the step they were drawn after, and the picture.
pub(crate) fn previews(
    engine: &mut Engine,
    request: &Request,
) -> (Vec<(usize, RgbImage)>, Generated) {
    let mut previews = Vec::new();
    let made = engine.generate_with(request, &mut |event| {
        if let Event::Preview { done, image } = event {
            previews.push((done, image.clone()));
        }
        ControlFlow::Continue(())
    });
    (previews, made.unwrap())
}

#[test]
fn previews_come_nearer_to_the_picture_and_do_not_change_it() {
    let mut engine = demo();
    let prompt = Some("a penguin".to_owned());
    let request = Request { prompt, steps: Some(12), seed: 42, ..Request::default() };
    let (none, plain) = previews(&mut engine, &request);
    assert!(none.is_empty());
    let request = Request { preview_every: Some(3), ..request };
    let (previews, made) = previews(&mut engine, &request);
    assert_eq!(made.latents.host(), plain.latents.host());
    assert_eq!(made.image, plain.image);
    let steps: Vec<usize> = previews.iter().map(|(done, _)| *done).collect();
    assert_eq!(steps, [3, 6, 9]);
    let near: Vec<f64> = previews.iter().map(|(_, image)| image.psnr(&made.image)).collect();
    assert!(near.is_sorted() && near[0] > 10.0 && near[2] > 20.0, "{near:?}");
    // It may be stopped there.
    let stopped = engine.generate_with(&request, &mut |event| match event {
        Event::Preview { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped, Err(Error::Cancelled)));
}

#[test]
fn tiles_act_above_the_models_own_size_only() {
    let mut engine = demo();
    let mut draw = |width, vae_tiling| {
        let size = (Some(width), Some(96), Some(1));
        let (width, height, steps) = size;
        engine
            .generate(&Request { width, height, steps, vae_tiling, ..Request::default() })
            .unwrap()
    };
    assert_eq!(draw(128, true).image, draw(128, false).image);
    let [tiled, whole] = [true, false].map(|tiling| draw(224, tiling));
    assert_eq!([tiled.image.width, tiled.image.height], [224, 96]);
    assert_ne!(tiled.image, whole.image);
    assert!(tiled.settings.vae_tiling && !whole.settings.vae_tiling);
    assert_eq!(tiled.latents.host(), whole.latents.host());
}

#[test]
fn style_and_guidance_act() {
    let mut engine = demo();
    let line = draw(&mut engine, "a red apple, line style", 3.5);
    let grey = line.image.data.chunks_exact(3).all(|pixel| {
        let [low, high] = [pixel.iter().min().unwrap(), pixel.iter().max().unwrap()];
        high - low < 60
    });
    assert!(grey, "a line drawing has no colour");
    let weak = draw(&mut engine, "a red apple, line style", 1.0);
    assert_ne!(weak.image, line.image);
}

//! `taylor_update` and `taylor_forecast`: all quotients of both orders, of the joint and of the image's
//! stream.

use flux_rt::Result;
use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::ops::taylor::TaylorSeries;
use flux_rt::ops::taylor::taylor_forecast;
use flux_rt::ops::taylor::taylor_update;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    for rows in bench.pick([1152, 1024], [4608, 4096]) {
        for order in [1, 2] {
            case(bench, [rows, 3072], order);
        }
    }
}

/// A series that has all its quotients, and what it was made of.
fn series(
    device: &Device,
    shape: [usize; 2],
    order: usize,
) -> Result<(TaylorSeries, [Tensor<Act, 2>; 2])> {
    let mut series = TaylorSeries::new(device, order, shape)?;
    series.reset()?;
    let before: Tensor<Act, 2> = crate::random(device, shape, 1)?;
    let after: Tensor<Act, 2> = crate::random(device, shape, 2)?;
    for at in [2, 3, 4] {
        taylor_update(&mut series, before.matrix(), after.matrix(), &crate::step(device, at)?)?;
    }
    Ok((series, [before, after]))
}

fn case(bench: &mut Bench, shape: [usize; 2], order: usize) {
    let name = format!("{}x{} order {order}", shape[0], shape[1]);
    let count = shape[0] * shape[1];
    // Both streams and the quotients below the highest are read, all quotients are written.
    let work = Work { values: (2 + 2 * order + 1) * count, ..Work::default() };
    bench.case("taylor_update", &name, work, |device| {
        let (mut series, [before, after]) = series(device, shape, order)?;
        // From the second call on the gap is 0 and the quotients are NaN, which takes as long.
        let step = crate::step(device, 5)?;
        Ok(move || taylor_update(&mut series, before.matrix(), after.matrix(), &step))
    });
    let work = Work { values: (2 + order + 1) * count, ..Work::default() };
    bench.case("taylor_forecast", &name, work, |device| {
        let (series, [before, _]) = series(device, shape, order)?;
        let step = crate::step(device, 6)?;
        let mut out = Tensor::<Act, 2>::empty(device, shape)?;
        Ok(move || taylor_forecast(out.matrix_mut(), before.matrix(), &series, 0, &step))
    });
}

//! The steps: velocity, then Euler step; the observer may stop after each.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use crate::device::Cuda;
use crate::device::CudaEvent;
use crate::device::Device;
use crate::device::Graph;
use crate::error::Error;
use crate::error::Result;
use crate::model::flux;
use crate::model::weights::flux::FluxWeights;
use crate::ops::euler_step::LatentRounding;
use crate::ops::euler_step::euler_step;
use crate::pipeline::Event;
use crate::pipeline::session::Session;

/// Steps that the host runs ahead of the GPU: the queue never empties, and a stop acts soon.
const AHEAD: usize = 2;
/// How often the host looks whether a step is done.
const POLL: Duration = Duration::from_micros(50);

/// Who is told of each step, and may stop.
type Observer<'a> = &'a mut dyn FnMut(Event) -> ControlFlow<()>;

/// Runs all steps from the session's latents, in place.
///
/// # Errors
/// [`Error::Numeric`] when the latents become NaN or infinite, [`Error::Cancelled`] when the
/// observer says stop.
pub(crate) fn denoise(
    session: &mut Session,
    weights: &FluxWeights,
    rounding: LatentRounding,
    observer: Observer<'_>,
) -> Result<()> {
    let steps = session.sigmas.shape()[0] - 1;
    match session.latents.device() {
        Device::Cpu => {
            for done in 1..=steps {
                step(session, weights, rounding)?;
                if !session.latents.host().iter().all(|value| value.is_finite()) {
                    return Err(Error::Numeric { what: "latents", step: done });
                }
                report(done, steps, observer)?;
            }
            Ok(())
        }
        Device::Cuda(cuda) if cuda.is_profiling() => {
            // One by one, so that each launch can be timed.
            for done in 1..=steps {
                step(session, weights, rounding)?;
                report(done, steps, observer)?;
            }
            Ok(())
        }
        Device::Cuda(cuda) => {
            let graph = match session.graph.take() {
                Some(graph) => graph,
                None => Graph::record(&cuda, || step(session, weights, rounding))?,
            };
            let ran = launch_steps(&cuda, session.graph.insert(graph), steps, observer);
            // Steps under way would go on writing to the session.
            cuda.synchronize()?;
            ran
        }
    }
}

/// One step; the counter of steps lies on the device.
fn step(session: &mut Session, weights: &FluxWeights, rounding: LatentRounding) -> Result<()> {
    let Session { prepared, workspace, latents, velocity, sigmas, step, .. } = session;
    flux::forward(velocity, workspace, latents.matrix(), weights, prepared, step)?;
    euler_step(latents, velocity, sigmas, step, rounding)
}

/// Launches the recorded step `steps` times. The host only looks at events: it decides nothing but
/// whether to stop.
fn launch_steps(
    cuda: &Arc<Cuda>,
    graph: &Graph,
    steps: usize,
    observer: Observer<'_>,
) -> Result<()> {
    let mut running: VecDeque<CudaEvent> = VecDeque::new();
    let mut launched = 0;
    for done in 1..=steps {
        while launched < steps && running.len() < AHEAD {
            graph.launch()?;
            let event = CudaEvent::new(cuda)?;
            event.record()?;
            running.push_back(event);
            launched += 1;
        }
        if let Some(event) = running.pop_front() {
            while !event.is_done()? {
                sleep(POLL);
            }
        }
        report(done, steps, observer)?;
    }
    Ok(())
}

fn report(done: usize, steps: usize, observer: Observer<'_>) -> Result<()> {
    match observer(Event::Step { done, steps }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    }
}

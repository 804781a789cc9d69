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
use crate::model::flux::CacheStep;
use crate::model::flux::Planned;
use crate::model::flux::cached::StepAction;
use crate::ops::euler_step::LatentRounding;
use crate::ops::euler_step::euler_step;
use crate::ops::timestamp::Edge;
use crate::ops::timestamp::timestamp;
use crate::pipeline::Event;
use crate::pipeline::preview::Preview;
use crate::pipeline::session::Session;

/// Steps that the host runs ahead of the GPU: the queue never empties, and a stop acts soon.
const AHEAD: usize = 2;
/// How often the host looks whether a step is done.
const POLL: Duration = Duration::from_micros(50);

/// Who is told of each step, and may stop.
type Observer<'a> = &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

/// What the steps of a picture are.
#[derive(Debug)]
pub(crate) struct Run<'e> {
    pub(crate) transformer: Planned<'e>,
    pub(crate) rounding: LatentRounding,
    /// Of every step, what each cached list does in it.
    pub(crate) actions: &'e [Vec<StepAction>],
    pub(crate) preview: Option<Preview<'e>>,
}

/// Runs all steps from the session's latents, in place.
///
/// # Errors
/// [`Error::Numeric`] when the latents become NaN or infinite, [`Error::Cancelled`] when the
/// observer says stop.
pub(crate) fn denoise(session: &mut Session, run: &Run<'_>, observer: Observer<'_>) -> Result<()> {
    match session.latents.device() {
        Device::Cpu => {
            for (done, actions) in (1..).zip(run.actions) {
                step(session, run.transformer, run.rounding, actions)?;
                if !session.latents.host().iter().all(|value| value.is_finite()) {
                    return Err(Error::Numeric { what: "latents", step: done });
                }
                report(session, run, done, observer)?;
            }
            Ok(())
        }
        Device::Cuda(cuda) if cuda.is_profiling() => {
            // One by one, so that each launch can be timed.
            for (done, actions) in (1..).zip(run.actions) {
                step(session, run.transformer, run.rounding, actions)?;
                report(session, run, done, observer)?;
            }
            Ok(())
        }
        Device::Cuda(cuda) => {
            // All before the first step: nothing is to come between two steps.
            for actions in run.actions {
                if !session.graphs.iter().any(|(of, _)| of == actions) {
                    let graph = Graph::record(&cuda, || {
                        step(session, run.transformer, run.rounding, actions)
                    })?;
                    session.graphs.push((actions.clone(), graph));
                }
            }
            let ran = launch_steps(&cuda, session, run, observer);
            // Steps under way would go on writing to the session.
            cuda.synchronize()?;
            ran
        }
    }
}

/// One step; the counter of steps lies on the device.
pub(crate) fn step(
    session: &mut Session,
    transformer: Planned<'_>,
    rounding: LatentRounding,
    actions: &[StepAction],
) -> Result<()> {
    let Session { prepared, workspace, lists, latents, velocity, sigmas, step, stamps, .. } =
        session;
    timestamp(stamps, step, Edge::Begin)?;
    let cache = CacheStep { lists, actions };
    flux::forward(velocity, workspace, cache, latents.matrix(), transformer, prepared, step)?;
    euler_step(latents, velocity, sigmas, step, rounding)?;
    timestamp(stamps, step, Edge::End)
}

/// Launches the recorded steps in order. The host only looks at events: it decides nothing but
/// whether to stop. Where a preview is drawn, the steps behind it wait.
fn launch_steps(
    cuda: &Arc<Cuda>,
    session: &Session,
    run: &Run<'_>,
    observer: Observer<'_>,
) -> Result<()> {
    let graph = |actions: &Vec<StepAction>| {
        session.graphs.iter().find(|(of, _)| of == actions).map(|(_, graph)| graph)
    };
    let graphs: Vec<&Graph> = run.actions.iter().filter_map(graph).collect();
    let steps = graphs.len();
    let stops = |launched: usize| {
        run.preview.as_ref().is_some_and(|preview| preview.is_due(launched, steps))
    };
    let mut running: VecDeque<CudaEvent> = VecDeque::new();
    let mut waiting = graphs.iter();
    for done in 1..=steps {
        while running.len() < AHEAD {
            // Of the steps that were launched, the last may be one that is looked at.
            let launched = steps - waiting.len();
            if launched >= done && stops(launched) {
                break;
            }
            let Some(graph) = waiting.next() else { break };
            graph.launch()?;
            let event = CudaEvent::new(cuda)?;
            event.record()?;
            running.push_back(event);
        }
        if let Some(event) = running.pop_front() {
            while !event.is_done()? {
                sleep(POLL);
            }
        }
        report(session, run, done, observer)?;
    }
    Ok(())
}

/// Tells that a step is done, and shows what comes of it where that was asked for.
fn report(session: &Session, run: &Run<'_>, done: usize, observer: Observer<'_>) -> Result<()> {
    let steps = run.actions.len();
    let mut tell = |event: Event<'_>| match observer(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    };
    tell(Event::Step { done, steps })?;
    match &run.preview {
        Some(preview) if preview.is_due(done, steps) => {
            tell(Event::Preview { done, image: &preview.draw(session, done)? })
        }
        _ => Ok(()),
    }
}

//! `branch`: the decision picks one of two bodies, launch by launch, and only that one runs.

use flux_rt::Error;
use flux_rt::Result;
use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Graph;
use flux_rt::device::Tensor;
use flux_rt::ops::branch::branch;
use flux_rt::ops::euler_step::LatentRounding;
use flux_rt::ops::euler_step::euler_step;
use flux_rt::ops::upsample::upsample;

use crate::common::gpu;
use crate::common::random;

/// More calls than any test makes of one counter.
const CALLS: usize = 512;

/// A number that grows by a fixed amount a call, and how many calls there were: whole numbers up to
/// 256, which bf16 holds.
struct Counter {
    total: Tensor<Act, 2>,
    amount: Tensor<Act, 2>,
    sigmas: Tensor<f32, 1>,
    calls: Tensor<u32, 1>,
}

impl Counter {
    fn new(device: &Device, amount: f32) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let sigmas = (0..=CALLS).map(|at| at as f32).collect();
        Self {
            total: gpu::to(device, Tensor::zeros([1, 1])),
            amount: gpu::to(device, Tensor::from_host([1, 1], vec![amount])),
            sigmas: gpu::to(device, Tensor::from_host([CALLS + 1], sigmas)),
            calls: gpu::to(device, Tensor::zeros([1])),
        }
    }

    /// `total += amount`, `calls += 1`.
    fn count(&mut self) -> Result<()> {
        let Self { total, amount, sigmas, calls } = self;
        euler_step(total, amount, sigmas, calls, LatentRounding::F32)
    }

    /// `total = -total` by way of `total += -2 * total`, `calls += 1`.
    fn negate(&mut self, minus_two: &Tensor<f32, 1>) -> Result<()> {
        let Self { total, amount, calls, .. } = self;
        amount.matrix_mut().copy_from(total.matrix())?;
        euler_step(total, amount, minus_two, calls, LatentRounding::F32)
    }

    fn calls(&self) -> u32 {
        self.calls.to_host().unwrap().host()[0]
    }
}

fn decision(value: u32) -> Tensor<u32, 1> {
    Tensor::from_host([1], vec![value])
}

/// Any error that no op returns by itself.
fn refused() -> Error {
    Error::Request { field: "body", reason: "refuses".into() }
}

/// `x` twice as large, a branch between two pictures four times as large, and the picked one twice
/// as large again.
struct Pictures {
    decision: Tensor<u32, 1>,
    x: Tensor<Act, 3>,
    cached: Tensor<Act, 3>,
    double: Tensor<Act, 3>,
    picked: Tensor<Act, 3>,
    out: Tensor<Act, 3>,
    hits: Counter,
    computes: Counter,
}

impl Pictures {
    const SIDE: usize = 24;
    const CHANNELS: usize = 40;

    fn new(device: &Device) -> Self {
        let shape = |scale: usize| [scale * Self::SIDE, scale * Self::SIDE, Self::CHANNELS];
        Self {
            decision: gpu::to(device, decision(0)),
            x: gpu::act(device, shape(1), 1),
            cached: gpu::act(device, shape(4), 2),
            double: Tensor::empty(device, shape(2)).unwrap(),
            picked: Tensor::empty(device, shape(4)).unwrap(),
            out: Tensor::empty(device, shape(8)).unwrap(),
            hits: Counter::new(device, 1.0),
            computes: Counter::new(device, 1.0),
        }
    }

    fn run(&mut self) -> Result<()> {
        upsample(&mut self.double, &self.x)?;
        let Self { decision, cached, double, picked, out, hits, computes, .. } = self;
        branch(
            decision,
            picked,
            |picked| {
                hits.count()?;
                picked.matrix_mut().copy_from(cached.matrix())
            },
            |picked| {
                upsample(picked, double)?;
                computes.count()
            },
        )?;
        upsample(out, picked)
    }

    fn decide(&mut self, value: u32) {
        self.decision.copy_from_host(&decision(value)).unwrap();
    }

    /// The result and how often either body ran.
    fn result(&self) -> (Vec<f32>, [u32; 2]) {
        let out = self.out.to_host().unwrap().host().to_vec();
        (out, [self.hits.calls(), self.computes.calls()])
    }
}

/// Both ways and back; any number that is not 0 is a hit, also one whose low bytes are 0.
const DECISIONS: [u32; 9] = [0, 1, 1, 0, 0, 7, u32::MAX, 0, 1 << 31];

/// Runs `pictures` for every decision by `run`, and compares with the CPU.
fn check_pictures(mut pictures: Pictures, mut run: impl FnMut(&mut Pictures)) {
    let mut expected = Pictures::new(&Device::Cpu);
    for (index, value) in DECISIONS.into_iter().enumerate() {
        // Other input each time: a body that did not run would leave what the last launch wrote.
        let mut x = Tensor::from_host(expected.x.shape(), random(expected.x.host().len(), 9));
        x.host_mut().rotate_left(index);
        gpu::round(x.host_mut());
        for pictures in [&mut pictures, &mut expected] {
            pictures.x.copy_from_host(&x).unwrap();
            pictures.decide(value);
        }
        run(&mut pictures);
        expected.run().unwrap();
        let (out, calls) = pictures.result();
        let (expected_out, expected_calls) = expected.result();
        assert_eq!(calls, expected_calls, "hits and computes at {index}, decision {value}");
        assert!(out == expected_out, "result at {index}, decision {value}");
    }
}

#[test]
fn the_decision_picks_one_closure() {
    for (value, expected) in [(0, "compute"), (1, "hit"), (2, "hit"), (u32::MAX, "hit")] {
        let mut ran = Vec::new();
        branch(
            &decision(value),
            &mut ran,
            |ran| {
                ran.push("hit");
                Ok(())
            },
            |ran| {
                ran.push("compute");
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(ran, [expected], "decision {value}");
    }
}

#[test]
fn what_the_picked_closure_returns_is_returned() {
    for value in [0, 1] {
        let hit = branch(&decision(value), &mut (), |()| Err(refused()), |()| Ok(()));
        assert_eq!(hit.is_err(), value == 1, "{hit:?}");
        let compute = branch(&decision(value), &mut (), |()| Ok(()), |()| Err(refused()));
        assert_eq!(compute.is_err(), value == 0, "{compute:?}");
    }
}

#[test]
fn a_decision_is_one_number() {
    for len in [0, 2] {
        let wrong = branch(&Tensor::zeros([len]), &mut (), |()| Ok(()), |()| Ok(()));
        assert!(matches!(wrong, Err(Error::Shape { tensor: "decision", .. })), "{wrong:?}");
    }
}

#[test]
fn the_next_op_sees_what_the_picked_one_wrote() {
    let mut pictures = Pictures::new(&Device::Cpu);
    for value in [0, 3] {
        pictures.decide(value);
        pictures.run().unwrap();
        let source = if value == 0 { &pictures.x } else { &pictures.cached };
        // Nearest upsampling keeps the corner.
        assert_eq!(pictures.out.host()[..Pictures::CHANNELS], source.host()[..Pictures::CHANNELS]);
    }
    assert_eq!(pictures.result().1, [1, 1]);
}

#[test]
fn cuda_decides_without_a_recording() {
    let Some(gpu) = gpu::gpu() else { return };
    check_pictures(Pictures::new(&gpu), |pictures| pictures.run().unwrap());
}

#[test]
fn cuda_a_recorded_branch_follows_its_decision() {
    let Some(gpu) = gpu::gpu() else { return };
    let Device::Cuda(cuda) = &*gpu else { return };
    let mut pictures = Pictures::new(&gpu);
    let graph = Graph::record(cuda, || pictures.run()).unwrap();
    assert_eq!(pictures.result().1, [0, 0], "recording runs nothing");
    check_pictures(pictures, |_| graph.launch().unwrap());
}

#[test]
fn cuda_launches_may_queue_up() {
    let Some(gpu) = gpu::gpu() else { return };
    let Device::Cuda(cuda) = &*gpu else { return };
    let mut pictures = Pictures::new(&gpu);
    let graph = Graph::record(cuda, || pictures.run()).unwrap();
    // No wait between launches: uploads and launches follow one another in the stream.
    for round in 0..40 {
        pictures.decide(u32::from(round % 5 < 2));
        graph.launch().unwrap();
    }
    assert_eq!(pictures.result().1, [16, 24]);
}

#[test]
fn cuda_branches_in_a_chain_run_in_order() {
    const LEN: usize = 24;
    let Some(gpu) = gpu::gpu() else { return };
    let Device::Cuda(cuda) = &*gpu else { return };
    let device: &Device = &gpu;
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let minus_two = (0..=CALLS).map(|at| -2.0 * at as f32).collect();
    let minus_two = gpu::to(device, Tensor::from_host([CALLS + 1], minus_two));
    let mut decisions: Vec<_> = (0..LEN).map(|_| gpu::to(device, decision(0))).collect();
    let mut counter = Counter::new(device, 1.0);
    // `negate` overwrites `amount`: each hit takes it from here.
    let one = gpu::to(device, Tensor::<Act, 2>::from_host([1, 1], vec![1.0]));
    let graph = Graph::record(cuda, || {
        decisions.iter().try_for_each(|decision| {
            let hit = |counter: &mut Counter| {
                counter.amount.matrix_mut().copy_from(one.matrix())?;
                counter.count()
            };
            branch(decision, &mut counter, hit, |counter| counter.negate(&minus_two))
        })
    })
    .unwrap();
    let mut expected = 0.0;
    for launch in 0..6 {
        let bits = random(LEN, 40 + launch).into_iter().map(|value| u32::from(value > 0.0));
        for (bit, on_device) in bits.zip(&mut decisions) {
            on_device.copy_from_host(&decision(bit)).unwrap();
            // Adding one and negating do not commute: the order shows in the total.
            expected = if bit == 1 { expected + 1.0 } else { -expected };
        }
        graph.launch().unwrap();
        let total = counter.total.to_host().unwrap().host()[0];
        assert_eq!(total, expected, "launch {launch}");
    }
    assert_eq!(counter.calls(), 6 * 24);
}

#[test]
fn cuda_a_kernel_of_the_same_graph_decides() {
    let Some(gpu) = gpu::gpu() else { return };
    let Device::Cuda(cuda) = &*gpu else { return };
    let mut pictures = Pictures::new(&gpu);
    let [mut launches, mut late, mut early] = [1.0; 3].map(|one| Counter::new(&gpu, one));
    let graph = Graph::record(cuda, || {
        // The first launch computes, since the counter is 0; its own count makes all others hits.
        let Pictures { hits, computes, .. } = &mut pictures;
        branch(&launches.calls, &mut (), |()| hits.count(), |()| computes.count())?;
        launches.count()?;
        // This one's decision is written inside the first one's body.
        branch(&hits.calls, &mut (), |()| late.count(), |()| early.count())
    })
    .unwrap();
    for launch in 1..=4 {
        graph.launch().unwrap();
        assert_eq!(launches.calls(), launch);
        assert_eq!([pictures.hits.calls(), pictures.computes.calls()], [launch - 1, 1]);
        assert_eq!([late.calls(), early.calls()], [launch - 1, 1]);
    }
}

#[test]
fn cuda_a_body_may_be_empty() {
    let Some(gpu) = gpu::gpu() else { return };
    let Device::Cuda(cuda) = &*gpu else { return };
    let mut counter = Counter::new(&gpu, 1.0);
    let mut on_device = gpu::to(&gpu, decision(0));
    let graph = Graph::record(cuda, || {
        branch(&on_device, &mut counter, Counter::count, |_| Ok(()))?;
        branch(&on_device, &mut counter, |_| Ok(()), |_| Ok(()))
    })
    .unwrap();
    for (value, expected) in [(0, 0), (1, 1), (0, 1), (1, 2)] {
        on_device.copy_from_host(&decision(value)).unwrap();
        graph.launch().unwrap();
        assert_eq!(counter.calls(), expected, "decision {value}");
    }
}

#[test]
fn cuda_an_error_in_a_body_ends_the_recording_only() {
    let Some(gpu) = gpu::gpu() else { return };
    let Device::Cuda(cuda) = &*gpu else { return };
    let mut counter = Counter::new(&gpu, 1.0);
    let decision = gpu::to(&gpu, decision(1));
    for first in [true, false] {
        let failed = Graph::record(cuda, || {
            let body = |counter: &mut Counter, fails: bool| {
                counter.count()?;
                if fails { Err(refused()) } else { Ok(()) }
            };
            branch(&decision, &mut counter, |c| body(c, first), |c| body(c, !first))?;
            counter.count()
        });
        assert!(matches!(failed, Err(Error::Request { field: "body", .. })), "{failed:?}");
        assert_eq!(counter.calls(), 0, "nothing ran");
    }
    let nested = Graph::record(cuda, || {
        let inner =
            |counter: &mut Counter| branch(&decision, counter, Counter::count, Counter::count);
        branch(&decision, &mut counter, inner, Counter::count)
    });
    assert!(matches!(nested, Err(Error::Cuda { .. })), "{nested:?}");
    let waits =
        Graph::record(cuda, || branch(&decision, &mut (), |()| gpu.synchronize(), |()| Ok(())));
    assert!(matches!(waits, Err(Error::Cuda { .. })), "{waits:?}");

    // One by one and recorded, ops go where they went before.
    counter.count().unwrap();
    assert_eq!(counter.calls(), 1);
    let graph =
        Graph::record(cuda, || branch(&decision, &mut counter, Counter::count, Counter::count))
            .unwrap();
    graph.launch().unwrap();
    assert_eq!(counter.calls(), 2);
}

//! `branch`: a chain of 30, as many as an image has steps; on CUDA in one recorded graph, whose
//! decisions alternate. A body is one small copy, so the time is that of deciding.

use flux_rt::Result;
use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Graph;
use flux_rt::device::Tensor;
use flux_rt::ops::branch::branch;

use crate::Bench;
use crate::Work;

/// Branches behind one another.
const LEN: usize = 30;
/// Elements that a body copies.
const COLUMNS: usize = 64;

/// What the graph reads and writes; it lives as long as the graph is launched.
struct Chain {
    decisions: [Tensor<u32, 1>; 2],
    sources: [Tensor<Act, 2>; 2],
    out: Tensor<Act, 2>,
    /// On CUDA.
    graph: Option<Graph>,
}

impl Chain {
    fn new(device: &Device) -> Result<Self> {
        let shape = [1, COLUMNS];
        let mut chain = Self {
            decisions: [crate::step(device, 0)?, crate::step(device, 1)?],
            sources: [crate::random(device, shape, 1)?, crate::random(device, shape, 2)?],
            out: Tensor::empty(device, shape)?,
            graph: None,
        };
        if let Device::Cuda(cuda) = device {
            chain.graph = Some(Graph::record(cuda, || chain.branches())?);
        }
        Ok(chain)
    }

    fn branches(&mut self) -> Result<()> {
        let Self { decisions, sources: [hit, compute], out, .. } = self;
        (0..LEN).try_for_each(|at| {
            branch(
                &decisions[at % 2],
                out,
                |out| out.matrix_mut().copy_from(hit.matrix()),
                |out| out.matrix_mut().copy_from(compute.matrix()),
            )
        })
    }

    fn run(&mut self) -> Result<()> {
        match &self.graph {
            Some(graph) => graph.launch(),
            None => self.branches(),
        }
    }
}

pub(crate) fn run(bench: &mut Bench) {
    let work = Work { values: 2 * LEN * COLUMNS, bytes: 4 * LEN, ..Work::default() };
    bench.case("branch", &format!("{LEN} in a chain"), work, |device| {
        let mut chain = Chain::new(device)?;
        Ok(move || chain.run())
    });
}

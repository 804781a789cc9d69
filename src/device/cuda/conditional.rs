//! A point of a recording at which the GPU picks one of two bodies: a conditional node of type IF
//! with an ELSE (CUDA 12.8).
//!
//! The order of calls: [`Cuda::conditional`] for the handle, a launch of the kernel that sets it,
//! [`Conditional::add_node`] right behind that, then [`Body::record`] for both bodies.
#![expect(unsafe_code, reason = "calls of the CUDA driver")]

use std::ptr;

use cudarc::driver::sys;

use crate::device::cuda::Cuda;
use crate::device::cuda::driver::call;
use crate::error::Error;
use crate::error::Result;

/// A conditional node to be, in the graph that is being recorded.
#[derive(Debug)]
pub(crate) struct Conditional<'a> {
    cuda: &'a Cuda,
    handle: sys::CUgraphConditionalHandle,
}

/// What the GPU runs, or not: a graph that its conditional node owns.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    cuda: &'a Cuda,
    graph: sys::CUgraph,
}

/// Where a recording stands.
struct Recording {
    graph: sys::CUgraph,
    /// What the next node comes behind; the driver's own array, until the next call on the stream.
    dependencies: *const sys::CUgraphNode,
    /// What kind of edges lead there; null where all are plain.
    edges: *const sys::CUgraphEdgeData,
    count: usize,
}

impl Cuda {
    /// The handle of a new conditional node; none where nothing is being recorded.
    ///
    /// # Errors
    /// [`Error::Cuda`], also inside of another node's body.
    pub(crate) fn conditional(&self) -> Result<Option<Conditional<'_>>> {
        if self.streams.in_body() {
            let reason = "expected no branch inside a branch that is being recorded, found one";
            return Err(Error::Cuda { call: "cuGraphAddNode", reason: reason.into() });
        }
        let Some(recording) = self.recording()? else { return Ok(None) };
        let mut handle = 0;
        // SAFETY: the graph is the one being recorded, the context lives as long as `self`; writes
        // one number. Every launch of the graph starts with the value 0.
        unsafe {
            call!(
                self.driver,
                cuGraphConditionalHandleCreate(
                    &mut handle,
                    recording.graph,
                    self.context,
                    0,
                    sys::CU_GRAPH_COND_ASSIGN_DEFAULT,
                )
            )
        }?;
        Ok(Some(Conditional { cuda: self, handle }))
    }

    /// The recording that is under way on the stream of all work, if one is.
    fn recording(&self) -> Result<Option<Recording>> {
        self.make_current()?;
        let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
        let mut recording = Recording {
            graph: ptr::null_mut(),
            dependencies: ptr::null(),
            edges: ptr::null(),
            count: 0,
        };
        // SAFETY: writes the five that are given; the other may be null. The kernel before may have
        // started early, so the edges have data of their own.
        unsafe {
            call!(
                self.driver,
                cuStreamGetCaptureInfo_v3(
                    self.streams.work,
                    &mut status,
                    ptr::null_mut(),
                    &mut recording.graph,
                    &mut recording.dependencies,
                    &mut recording.edges,
                    &mut recording.count,
                )
            )
        }?;
        match status {
            sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE => Ok(None),
            sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE => Ok(Some(recording)),
            sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_INVALIDATED => Err(Error::Cuda {
                call: "cuStreamGetCaptureInfo",
                reason: "expected a recording under way, found one that an earlier call spoiled"
                    .into(),
            }),
        }
    }
}

impl<'a> Conditional<'a> {
    /// What the kernel sets that decides: not 0 picks the first body, 0 the second.
    pub(crate) fn handle(&self) -> u64 {
        self.handle
    }

    /// Puts the node behind all that was recorded so far, and what is recorded from now on behind it.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub(crate) fn add_node(self) -> Result<[Body<'a>; 2]> {
        let Self { cuda, handle } = self;
        let recording = cuda.recording()?.ok_or_else(|| Error::Cuda {
            call: "cuGraphAddNode",
            reason: "expected the recording that the handle was made in, found none".into(),
        })?;
        let mut params = sys::CUgraphNodeParams {
            type_: sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_CONDITIONAL,
            reserved0: [0; 3],
            // All bytes behind the node's own parameters have to be 0.
            __bindgen_anon_1: sys::CUgraphNodeParams_st__bindgen_ty_1 { reserved1: [0; 29] },
            reserved2: 0,
        };
        params.__bindgen_anon_1.conditional = sys::CUDA_CONDITIONAL_NODE_PARAMS {
            handle,
            type_: sys::CUgraphConditionalNodeType::CU_GRAPH_COND_TYPE_IF,
            size: 2,
            phGraph_out: ptr::null_mut(),
            ctx: cuda.context,
        };
        let mut node = ptr::null_mut();
        // SAFETY: graph and dependencies are of the recording, on which nothing was called since;
        // so are the edges, null for plain ones; the driver writes the node and the field `phGraph_out`.
        unsafe {
            call!(
                cuda.driver,
                cuGraphAddNode_v2(
                    &mut node,
                    recording.graph,
                    recording.dependencies,
                    recording.edges,
                    recording.count,
                    &mut params,
                )
            )
        }?;
        // SAFETY: the field that was written above, and that the driver completed.
        let graphs = unsafe { params.__bindgen_anon_1.conditional.phGraph_out };
        // SAFETY: `size` graphs, in an array that lives as long as the node.
        let graphs = unsafe { graphs.cast::<[sys::CUgraph; 2]>().read() };
        let set = sys::CUstreamUpdateCaptureDependencies_flags::CU_STREAM_SET_CAPTURE_DEPENDENCIES;
        // SAFETY: reads one node of the graph that the stream is recording; null as above.
        unsafe {
            call!(
                cuda.driver,
                cuStreamUpdateCaptureDependencies_v2(
                    cuda.streams.work,
                    &mut node,
                    ptr::null(),
                    1,
                    set as u32,
                )
            )
        }?;
        Ok(graphs.map(|graph| Body { cuda, graph }))
    }
}

impl Body<'_> {
    /// Records what `body` starts on the GPU. What [`super::Graph::record`] says of its body holds
    /// for this one too.
    ///
    /// # Errors
    /// What `body` returns; [`Error::Cuda`].
    pub(crate) fn record(self, body: impl FnOnce() -> Result<()>) -> Result<()> {
        let Self { cuda, graph } = self;
        cuda.make_current()?;
        // SAFETY: the stream lives as long as `cuda` and records nothing else, since bodies are
        // recorded one after the other; the graph's node is in a graph that is being recorded. The
        // first nodes come behind none. Relaxed: as in `Graph::record`.
        unsafe {
            call!(
                cuda.driver,
                cuStreamBeginCaptureToGraph(
                    cuda.streams.body,
                    graph,
                    ptr::null(),
                    ptr::null(),
                    0,
                    sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED,
                )
            )
        }?;
        let recorded = cuda.streams.to_body(body);
        let mut graph = ptr::null_mut();
        // SAFETY: the capture began above; it must end even where `body` failed. The graph that this
        // writes is the node's.
        let ended =
            unsafe { call!(cuda.driver, cuStreamEndCapture(cuda.streams.body, &mut graph)) };
        recorded.and(ended)
    }
}

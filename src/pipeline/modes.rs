//! The modes that an engine holds: which makes the pictures, and what each computes.

use crate::device::Device;
use crate::elastic::Mode;
use crate::elastic::Plan;
use crate::elastic::file;
use crate::error::Error;
use crate::error::Result;
use crate::pipeline::Engine;
use crate::pipeline::planning::all_lowered;
use crate::pipeline::precision::Precision;

/// A mode whose weights are loaded.
#[derive(Debug)]
pub(super) struct LoadedMode {
    pub(super) mode: Mode,
    pub(super) plan: Plan,
    /// What of the plan has no kernel here.
    pub(super) lowered: Vec<&'static str>,
}

impl LoadedMode {
    /// See [`Engine::own_plan`].
    pub(super) fn own_plan(&self) -> Option<serde_json::Value> {
        let Self { mode, plan, .. } = self;
        let built_in = Plan::built_in(mode, [plan.blocks.double.len(), plan.blocks.single.len()]);
        if built_in.is_some_and(|built_in| built_in.blocks == plan.blocks) {
            return None;
        }
        let plan = Plan { model: None, measured: None, ..plan.clone() };
        serde_json::from_str(&file::to_json(&plan)).ok()
    }

    /// See [`Engine::lowered`].
    pub(super) fn all_lowered(&self) -> Vec<&'static str> {
        all_lowered(&self.mode, &self.lowered)
    }
}

impl Engine {
    pub(super) fn active(&self) -> &LoadedMode {
        &self.modes[self.active]
    }

    /// The mode that makes the pictures.
    #[must_use]
    pub fn mode(&self) -> &Mode {
        &self.active().mode
    }

    /// Has the pictures to come made in another of the loaded modes. Nothing is loaded for it; the first
    /// picture of a size in a mode takes the memory of its steps.
    ///
    /// # Errors
    /// [`Error::Request`] for a mode that the engine was built without.
    pub fn use_mode(&mut self, mode: &Mode) -> Result<()> {
        self.active = self.position(mode)?;
        self.precision = self.precision_of(mode)?;
        if let Device::Cuda(cuda) = &self.components.device {
            cuda.set_round_like_diffusers(*mode == Mode::Original);
        }
        Ok(())
    }

    fn position(&self, mode: &Mode) -> Result<usize> {
        let found = self.modes.iter().position(|loaded| loaded.mode == *mode);
        found.ok_or_else(|| {
            let names: Vec<String> = self.modes.iter().map(|mode| mode.mode.to_string()).collect();
            let reason =
                format!("expected a mode that is loaded ({}), found {mode}", names.join(", "));
            Error::Request { field: "mode", reason }
        })
    }

    /// A mode that is loaded.
    pub(super) fn loaded(&self, mode: &Mode) -> Result<&LoadedMode> {
        Ok(&self.modes[self.position(mode)?])
    }

    /// The precision of a mode.
    pub(super) fn precision_of(&self, mode: &Mode) -> Result<Precision> {
        Precision::new(&self.components.device, self.dtype_asked, mode)
    }

    /// What the mode computes, as in a plan file, where it is not what is built in.
    #[must_use]
    pub fn own_plan(&self) -> Option<serde_json::Value> {
        self.active().own_plan()
    }

    /// Parts of the mode that run in [`Self::dtype`] for want of kernels, here or where the picture was
    /// drawn that is repeated.
    #[must_use]
    pub fn lowered(&self) -> Vec<&'static str> {
        self.active().all_lowered()
    }
}

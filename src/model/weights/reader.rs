//! Tensors of one component by their diffusers names, checked; `fuse` fuses and converts them.

use std::collections::BTreeMap;
use std::collections::HashSet;

use crate::error::Error;
use crate::error::Result;
use crate::model::closest::closest;
use crate::model::weights::checkpoint::Checkpoint;
use crate::model::weights::dtype::Stored;
use crate::model::weights::dtype::WeightDtype;
use crate::model::weights::naming;
use crate::model::weights::naming::Component;
use crate::model::weights::naming::View;
use crate::model::weights::stored_fp8::StoredFp8;
use crate::model::weights::tensor_source::Placement;
use crate::model::weights::width_biases::WidthBiases;

/// Reads the tensors of one component.
#[derive(Debug)]
pub struct Reader<'c> {
    pub(super) checkpoint: &'c Checkpoint,
    component: Component,
    views: BTreeMap<String, View>,
    used: HashSet<String>,
    /// Where tensors are put.
    pub(super) placement: Placement,
    /// What narrower layers add to their biases.
    pub(super) width_biases: Option<&'c WidthBiases>,
    /// Layers in e4m3.
    pub(super) stored_fp8: Option<&'c StoredFp8>,
    /// Check every name, dtype and shape, but convert nothing.
    pub(super) checking: bool,
}

impl<'c> Reader<'c> {
    /// A reader of `component`, which the checkpoint holds alone or among others.
    ///
    /// # Errors
    /// [`Error::Weight`] for names or scales that contradict each other.
    pub fn new(checkpoint: &'c Checkpoint, component: Component) -> Result<Self> {
        let views = naming::views(checkpoint, component)?;
        let placement = WeightDtype::F32.into();
        let used = HashSet::new();
        let (width_biases, stored_fp8) = (None, None);
        let checking = false;
        Ok(Self {
            checkpoint,
            component,
            views,
            used,
            placement,
            width_biases,
            stored_fp8,
            checking,
        })
    }

    /// Takes what narrower layers add to their biases, and layers in e4m3, from a prepared model's files.
    pub(crate) fn prepared(
        mut self,
        width_biases: Option<&'c WidthBiases>,
        stored_fp8: Option<&'c StoredFp8>,
    ) -> Self {
        (self.width_biases, self.stored_fp8) = (width_biases, stored_fp8);
        self
    }

    /// The shape of a tensor by its diffusers name.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.views.get(name).map(|view| &view.shape[..])
    }

    /// Whether a tensor is stored in a format whose numbers bf16 does not hold.
    #[must_use]
    pub fn is_wide(&self, name: &str) -> bool {
        let narrow = [Some(Stored::Bf16), Some(Stored::F8E4M3), Some(Stored::F8E5M2)];
        self.views.get(name).is_some_and(|view| {
            !narrow.contains(&Stored::of(view.dtype)) || view.scale.to_bits() != 1.0_f32.to_bits()
        })
    }

    /// How many numbered modules follow `prefix` (`transformer_blocks.`): the largest number + 1.
    #[must_use]
    pub fn count(&self, prefix: &str) -> usize {
        let index = |name: &String| -> Option<usize> {
            name.strip_prefix(prefix)?.split('.').next()?.parse().ok()
        };
        // A file cannot have more modules than tensors, whatever numbers its names hold.
        let last = self.views.keys().filter_map(index).max();
        last.map_or(0, |last| last.saturating_add(1).min(self.views.len()))
    }

    /// The diffusers names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.views.keys().map(String::as_str)
    }

    /// The file or folder that is read.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        self.checkpoint.path()
    }

    /// Runs `read` twice: first it only checks, as [`Self::check`]; only then are numbers converted, memory
    /// taken, and tensors put where `placement` says.
    pub(crate) fn checked<W>(
        &mut self,
        placement: Placement,
        mut read: impl FnMut(&mut Self) -> Result<W>,
    ) -> Result<W> {
        self.check(placement, &mut read)?;
        read(self)
    }

    /// Checks that every tensor that `read` asks for is there with the right dtype and shape, and none
    /// is left over.
    pub(crate) fn check<W>(
        &mut self,
        placement: Placement,
        mut read: impl FnMut(&mut Self) -> Result<W>,
    ) -> Result<()> {
        self.placement = placement;
        self.checking = true;
        self.used.clear();
        let checked = read(self).and_then(|_| self.refuse_unused());
        self.checking = false;
        checked
    }

    /// The tensor `name`, which must be of a known dtype and of `shape`.
    pub(super) fn view(&mut self, name: &str, shape: &[usize]) -> Result<View> {
        let Some(view) = self.views.get(name) else {
            let unused = self.views.keys().filter(|name| !self.used.contains(*name));
            let near = closest(name, unused.map(String::as_str));
            let near =
                near.map_or_else(String::new, |near| format!(" (the closest name is `{near}`)"));
            let expected = format!("a tensor of shape {shape:?}");
            return Err(self.checkpoint.error(name, expected, format!("no such tensor{near}")));
        };
        let error =
            |expected: String, actual: String| Err(self.error(name, view, expected, actual));
        if Stored::of(view.dtype).is_none() {
            return error(format!("dtype {}", Stored::NAMES), format!("{:?}", view.dtype));
        }
        if view.shape != shape {
            return error(format!("shape {shape:?}"), format!("{:?}", view.shape));
        }
        self.used.insert(name.to_owned());
        Ok(view.clone())
    }

    /// An error about a tensor, by its stored name; the diffusers name is added where it differs.
    fn error(&self, name: &str, view: &View, expected: String, actual: String) -> Error {
        let expected = match view.stored == name {
            true => expected,
            false => format!("{expected} for `{name}`"),
        };
        self.checkpoint.error(&view.stored, expected, actual)
    }

    /// Fails if the checkpoint holds a tensor that was not read.
    fn refuse_unused(&self) -> Result<()> {
        let unused: Vec<&View> = self
            .views
            .iter()
            .filter(|(name, _)| !self.used.contains(*name))
            .map(|(_, view)| view)
            .collect();
        let Some(first) = unused.first() else { return Ok(()) };
        let more = match unused.len() {
            1 => String::new(),
            count => format!(" and {} more tensors that it does not have", count - 1),
        };
        let expected = format!("no such tensor in the model's {}", self.component.folder());
        Err(self.checkpoint.error(
            &first.stored,
            expected,
            format!("{:?} {:?}{more}", first.dtype, first.shape),
        ))
    }
}

//! The kernels' PTX as the driver compiled it: module by module, when one is first needed or all at
//! once beforehand.
#![expect(unsafe_code, reason = "calls of the CUDA driver")]

use std::collections::HashMap;
use std::ffi::CString;
use std::ptr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;

use cudarc::driver::sys;

use crate::device::cuda::Cuda;
use crate::device::cuda::driver::Driver;
use crate::device::cuda::driver::call;
use crate::device::modules::MODULES;
use crate::device::modules::Module;
use crate::device::modules::Tier;
use crate::error::Error;
use crate::error::Result;

/// A kernel entry and the dynamic shared memory that it was allowed so far.
#[derive(Clone, Copy)]
pub(super) struct Function {
    pub(super) handle: sys::CUfunction,
    smem_bytes: u32,
    /// Whether the kernel waits for the one before it by itself, before it touches memory that
    /// another may write: then it may start early.
    pub(super) waits: bool,
}

#[derive(Clone, Copy)]
struct LoadedModule {
    library: sys::CUlibrary,
    /// The library in this context.
    module: sys::CUmodule,
}

/// What is loaded so far.
pub(super) struct Modules {
    functions: Mutex<HashMap<String, Function>>,
    /// One for each of [`MODULES`], locked while the driver compiles it.
    loaded: Vec<Mutex<Option<LoadedModule>>>,
}

impl Default for Modules {
    fn default() -> Self {
        let loaded = MODULES.iter().map(|_| Mutex::default()).collect();
        Self { functions: Mutex::default(), loaded }
    }
}

impl Modules {
    /// Unloads all of them. No kernel of theirs may be running.
    pub(super) fn unload(&mut self, driver: &Driver) {
        for slot in &mut self.loaded {
            let loaded = slot.get_mut().unwrap_or_else(PoisonError::into_inner);
            if let Some(LoadedModule { library, .. }) = loaded.take() {
                // SAFETY: loaded in `Cuda::module`; no kernel of it runs.
                let _ = unsafe { call!(driver, cuLibraryUnload(library)) };
            }
        }
    }
}

impl Cuda {
    /// A kernel entry, with at least that much dynamic shared memory allowed.
    pub(super) fn function(&self, entry: &str, smem_bytes: u32) -> Result<Function> {
        self.make_current()?;
        let functions = &self.modules.functions;
        let mut functions = functions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut function = match functions.get(entry).copied() {
            Some(function) if smem_bytes <= function.smem_bytes => return Ok(function),
            Some(function) => function,
            None => self.load(entry)?,
        };
        if smem_bytes > function.smem_bytes {
            let attribute =
                sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let value = i32::try_from(smem_bytes).unwrap_or(i32::MAX);
            // SAFETY: the handle belongs to a module that stays loaded.
            unsafe { call!(self.driver, cuFuncSetAttribute(function.handle, attribute, value)) }?;
            function.smem_bytes = smem_bytes;
        }
        functions.insert(entry.to_owned(), function);
        Ok(function)
    }

    /// Compiles the module that holds `entry`, unless it is loaded, and looks the entry up.
    fn load(&self, entry: &str) -> Result<Function> {
        let holds = |module: &Module| module.entries.contains(&entry);
        let index = MODULES.iter().position(holds).ok_or_else(|| missing(entry))?;
        let LoadedModule { module, .. } = self.module(index)?;
        let name = CString::new(entry).map_err(|_| missing(entry))?;
        let mut handle = ptr::null_mut();
        // SAFETY: the module was loaded above and stays so; `name` ends with NUL.
        unsafe { call!(self.driver, cuModuleGetFunction(&mut handle, module, name.as_ptr())) }?;
        // All kernels of a module wait, or none.
        let waits = MODULES[index].ptx.contains("griddepcontrol.wait");
        Ok(Function { handle, smem_bytes: 0, waits })
    }

    /// Module `index` of [`MODULES`], compiled unless it is loaded.
    fn module(&self, index: usize) -> Result<LoadedModule> {
        let slot = &self.modules.loaded[index];
        let mut loaded = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = *loaded {
            return Ok(module);
        }
        let source = &MODULES[index];
        let text = CString::new(source.ptx).map_err(|_| missing(source.op))?;
        let (image, mut library) = (text.as_ptr().cast(), ptr::null_mut());
        let (no_options, no_values) = (ptr::null_mut(), ptr::null_mut());
        // As a library, not by cuModuleLoadData, for which a driver compiles one at a time, whatever
        // the threads.
        // SAFETY: `text` is PTX that ends with NUL; unloaded below, or in `Modules::unload`.
        unsafe {
            call!(
                self.driver,
                cuLibraryLoadData(
                    &mut library,
                    image,
                    no_options,
                    no_values,
                    0,
                    ptr::null_mut(),
                    ptr::null_mut(),
                    0,
                )
            )
        }?;
        let mut module = ptr::null_mut();
        // SAFETY: the library was loaded above, and the context is current.
        if let Err(error) = unsafe { call!(self.driver, cuLibraryGetModule(&mut module, library)) }
        {
            // SAFETY: loaded above and used by no one.
            let _ = unsafe { call!(self.driver, cuLibraryUnload(library)) };
            return Err(error);
        }
        let compiled = LoadedModule { library, module };
        *loaded = Some(compiled);
        Ok(compiled)
    }

    /// Starts to compile every module that this GPU may run, on threads of their own: while weights
    /// are read, the first image's kernels come about. What fails here fails again, and is told,
    /// where a kernel is asked for.
    pub(crate) fn load_modules_ahead(self: &Arc<Self>) -> LoadingAhead {
        let (tier, fp8) = (self.tier(), self.has_fp8());
        let mut wanted: Vec<usize> =
            (0..MODULES.len()).filter(|&index| may_run(&MODULES[index], tier, fp8)).collect();
        // The longest first.
        wanted.sort_by_key(|&index| std::cmp::Reverse(MODULES[index].ptx.len()));
        let threads = thread::available_parallelism().map_or(1, usize::from).min(wanted.len());
        let (wanted, next) = (Arc::new(wanted), Arc::new(AtomicUsize::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let start = |_| {
            let (cuda, wanted, next) = (Arc::clone(self), Arc::clone(&wanted), Arc::clone(&next));
            let stop = Arc::clone(&stop);
            thread::Builder::new().spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let next = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&index) = wanted.get(next) else { break };
                    let _ = cuda.make_current().and_then(|()| cuda.module(index));
                }
            })
        };
        // Where no thread is to be had, whoever needs a module compiles it.
        let threads = (0..threads).map_while(|index| start(index).ok()).collect();
        LoadingAhead { stop, threads }
    }
}

/// Whether a GPU of that tier may be asked for a kernel of `module`.
fn may_run(module: &Module, tier: Tier, fp8: bool) -> bool {
    match module.tier {
        Tier::Portable => true,
        Tier::Sm89 => {
            let better = |other: &Module| other.tier == tier && other.op == module.op;
            fp8 && !MODULES.iter().any(better)
        }
        Tier::Sm90 => tier == Tier::Sm90,
    }
}

/// Modules being compiled; dropped, it waits for those under way and leaves the others.
#[derive(Debug)]
pub(crate) struct LoadingAhead {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl LoadingAhead {
    /// Waits for all of them.
    pub(crate) fn finish(mut self) {
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Drop for LoadingAhead {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn missing(entry: &str) -> Error {
    Error::Device {
        reason: format!(
            "no kernel `{entry}` in this program: it was built without nvcc; see README, Build"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The operations of e4m3 that a card compiles modules for, with their tiers.
    fn wanted(tier: Tier, fp8: bool) -> Vec<(&'static str, Tier)> {
        let wanted = MODULES.iter().filter(|module| may_run(module, tier, fp8));
        let special = wanted.filter(|module| module.tier != Tier::Portable);
        special.map(|module| (module.op, module.tier)).collect()
    }

    #[test]
    fn what_a_card_cannot_run_or_has_better_is_not_compiled() {
        if MODULES.is_empty() {
            return println!("skipped: built without a CUDA compiler");
        }
        assert_eq!(wanted(Tier::Portable, false), []);
        let ada = wanted(Tier::Portable, true);
        assert!(ada.contains(&("gemm_fp8", Tier::Sm89)), "{ada:?}");
        assert!(ada.iter().all(|&(_, tier)| tier == Tier::Sm89), "{ada:?}");
        let hopper = wanted(Tier::Sm90, true);
        assert!(hopper.contains(&("gemm_fp8", Tier::Sm90)), "{hopper:?}");
        assert!(!hopper.contains(&("gemm_fp8", Tier::Sm89)), "{hopper:?}");
        assert!(hopper.contains(&("layernorm_modulate", Tier::Sm89)), "{hopper:?}");
    }
}

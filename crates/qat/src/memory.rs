//! What happens to memory between the steps of training.

/// Lets the allocator of the C library keep what it gets back, for the rest of the process; without effect elsewhere than on Linux with glibc.
///
/// A step of training takes memory for all its activations and gives it back. By default, glibc returns most of that to the system after
/// each step, which hands out and clears the same pages again in the next one. Programs that train call this once, before they start
/// threads; the command `qat` does. Libraries leave it to them, and programs with an allocator of their own have no use for it.
#[allow(unsafe_code, reason = "a setting of the C library")]
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// More than any step frees at once.
        const NEVER: libc::c_int = 1 << 30;
        /// The highest bound that every version takes.
        const HIGHEST: libc::c_int = 32 << 20;
        // SAFETY: it sets numbers under the allocator's own lock; what it refuses stays as it was.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, NEVER);
            if libc::mallopt(libc::M_MMAP_THRESHOLD, NEVER) == 0 {
                libc::mallopt(libc::M_MMAP_THRESHOLD, HIGHEST);
            }
        }
    }
}

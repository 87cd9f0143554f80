//! Values made ahead of time by threads, taken in order.
//!
//! Worker `w` of `W` makes the values `w, w + W, w + 2W, …` into a bounded channel of its own, and the taker goes round the
//! channels: so the order is that of one thread, and no more than a few values lie in wait. Not here: what is made.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Values that each worker may have finished before one is taken; it holds another while it waits to hand it over.
const AHEAD: usize = 1;

/// The values `make(first), …, make(end - 1)`, in this order.
pub(super) struct Prefetch<T> {
    workers: Vec<Worker<T>>,
    taken: usize,
}

struct Worker<T> {
    values: Receiver<T>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Sets `workers` threads to work; `None` where there are to be none, or the system gives none.
    pub(super) fn start(workers: usize, first: usize, end: usize, make: Arc<dyn Fn(usize) -> T + Send + Sync>) -> Option<Self> {
        let count = workers.min(end.saturating_sub(first));
        let mut prefetch = Self { workers: Vec::with_capacity(count), taken: 0 };
        for worker in 0..count {
            let (sender, values) = sync_channel(AHEAD);
            let make = make.clone();
            let work = move || {
                for index in (first + worker..end).step_by(count) {
                    // Nobody takes any more: the epoch was left before its end.
                    if sender.send(make(index)).is_err() {
                        return;
                    }
                }
            };
            let thread = Builder::new().name(format!("batches {worker}")).spawn(work).ok()?;
            prefetch.workers.push(Worker { values, thread });
        }
        (count > 0).then_some(prefetch)
    }

    /// The next value; `None` when all are taken.
    ///
    /// # Panics
    ///
    /// Panics as a worker did.
    pub(super) fn take(&mut self) -> Option<T> {
        let at = self.taken % self.workers.len().max(1);
        let value = self.workers.get(at)?.values.recv().ok();
        if value.is_none()
            && let Err(panic) = self.workers.remove(at).thread.join()
        {
            resume_unwind(panic);
        }
        self.taken += 1;
        value
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        for Worker { values, thread } in self.workers.drain(..) {
            drop(values);
            // A panic of a value that nobody took concerns nobody.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::sleep;
    use std::time::Duration;

    #[test]
    fn values_come_in_order_however_long_each_takes() {
        for workers in 1..=5 {
            let make = Arc::new(|index: usize| {
                sleep(Duration::from_micros([900, 0, 300][index % 3]));
                index
            });
            let mut prefetch = Prefetch::start(workers, 4, 41, make).unwrap();
            let values: Vec<usize> = std::iter::from_fn(|| prefetch.take()).collect();
            assert_eq!(values, (4..41).collect::<Vec<_>>());
        }
        assert!(Prefetch::start(0, 0, 9, Arc::new(|index| index)).is_none());
        assert!(Prefetch::start(3, 9, 9, Arc::new(|index| index)).is_none());
    }

    #[test]
    fn workers_do_not_run_ahead_without_bound_and_end_with_the_taker() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = made.clone();
        let mut prefetch = Prefetch::start(2, 0, 1_000_000, Arc::new(move |_| counter.fetch_add(1, Ordering::SeqCst))).unwrap();
        prefetch.take();
        sleep(Duration::from_millis(50));
        // One taken; of each worker one in its channel and one in its hands.
        assert!(made.load(Ordering::SeqCst) <= 5);
        drop(prefetch);
        assert_eq!(Arc::strong_count(&made), 1, "the threads are gone");
    }

    #[test]
    #[should_panic(expected = "value 3")]
    fn a_panic_of_a_worker_reaches_the_taker() {
        let make = Arc::new(|index| assert_ne!(index, 3, "value {index}"));
        let mut prefetch = Prefetch::start(2, 0, 9, make).unwrap();
        while prefetch.take().is_some() {}
    }
}

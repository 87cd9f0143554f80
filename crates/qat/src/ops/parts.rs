//! Parts of a tensor, worked on by the calling thread and by those of the pool.
//!
//! The calling thread does not wait for others to wake before it begins, and wakes none where there is only one part. Which thread
//! takes a part is left open; results have the order of the parts.

use std::sync::{Mutex, PoisonError};

use rayon::iter::IndexedParallelIterator;
use rayon::iter::plumbing::{Producer, ProducerCallback};

/// Calls `f` with every part.
pub(super) fn for_parts<I: IndexedParallelIterator>(parts: I, f: impl Fn(I::Item) + Sync) {
    map_parts(parts, f);
}

/// What `f` gives for each part, in order.
pub(super) fn map_parts<I: IndexedParallelIterator, R: Send>(parts: I, f: impl Fn(I::Item) -> R + Sync) -> Vec<R> {
    let parts = parts.with_producer(Collect);
    let threads = rayon::current_num_threads().min(parts.len());
    if threads <= 1 {
        return parts.into_iter().map(f).collect();
    }
    let count = parts.len();
    let (queue, done) = (Mutex::new(parts.into_iter().enumerate()), Mutex::new(Vec::with_capacity(count)));
    let work = || {
        let mut found = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((index, part)) = next else { break };
            found.push((index, f(part)));
        }
        done.lock().unwrap_or_else(PoisonError::into_inner).append(&mut found);
    };
    rayon::in_place_scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|_| work());
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The parts of an iterator that begins with some.
struct Collect;

impl<T: Send> ProducerCallback<T> for Collect {
    type Output = Vec<T>;

    fn callback<P: Producer<Item = T>>(self, producer: P) -> Vec<T> {
        producer.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn one_part_stays_on_the_calling_thread_and_many_keep_their_order() {
        let numbers: Vec<usize> = (0..1000).collect();
        let here = std::thread::current().id();
        for length in [0, 1, 10] {
            let parts = map_parts(numbers[..length].par_chunks(10), |part| (part.to_vec(), std::thread::current().id()));
            assert_eq!(parts.iter().map(|(part, _)| part.len()).sum::<usize>(), length);
            assert!(parts.iter().all(|(_, thread)| *thread == here));
        }
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let sums = pool.install(|| map_parts(numbers.par_chunks(10), |part| part[0]));
            assert_eq!(sums, (0..1000).step_by(10).collect::<Vec<_>>());
        }
        let mut copies = vec![0; 1000];
        for length in [0, 7, 1000] {
            for_parts(copies[..length].par_chunks_mut(10).zip(numbers.par_chunks(10)), |(to, from)| {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            });
        }
        assert!(copies.iter().enumerate().all(|(i, copy)| *copy == i * if i < 7 { 2 } else { 1 }));
    }
}

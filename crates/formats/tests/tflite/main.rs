//! TFLite files: written, read back, damaged, forged, and given to LiteRT.

mod damage;
mod hostile;
mod litert;
mod models;
mod round_trip;

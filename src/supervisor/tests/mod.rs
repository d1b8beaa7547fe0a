mod applying;
mod endings;
mod finding;
mod following;
mod pausing;
mod rig;

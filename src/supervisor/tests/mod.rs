mod applying;
mod endings;
mod finding;
mod following;
mod rig;

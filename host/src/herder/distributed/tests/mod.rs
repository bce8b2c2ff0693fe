mod fakes;
mod simulation;

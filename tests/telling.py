"""What a run tells its loggers, told without a run."""

STEPS, EPOCHS, ROUNDS = 3, 2, 1


def events(logger, start=(0, 0, 0), stop=None):
    """Tell a logger what a run tells, from one place to the other."""
    for round_ in range(start[0], ROUNDS + 1):
        logger.round_start(round_, ROUNDS, 0.8**round_)
        for epoch in range(start[1] if round_ == start[0] else 0, EPOCHS):
            done = start[2] if (round_, epoch) == start[:2] else 0
            logger.epoch_start(epoch, EPOCHS, STEPS, done)
            for step in range(done + 1, STEPS + 1):
                if (round_, epoch, step) == stop:
                    logger.close()
                    return
                logger.step(step, loss(round_, epoch, step), 1e-3)
            logger.epoch_end(epoch, loss(round_, epoch, 0))
        logger.round_end({"round": round_, "metrics": {"derain": {"psnr": 20.0 + round_}}})
    logger.close()


def loss(round_, epoch, step):
    return 1 / (1 + round_ * 100 + epoch * 10 + step)

"""`python -m miniplm`, and with it `torchrun -m miniplm` and `accelerate launch -m miniplm`."""

from miniplm.cli import main

if __name__ == "__main__":
    main(prog_name="miniplm")

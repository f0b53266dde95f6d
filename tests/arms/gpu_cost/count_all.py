"""Count many orders in this one process, so that tests pay for torch once: JSON in, JSON out.

python -m tests.arms.gpu_cost.count_all '[{"source": …}, …]'
"""

import json
import sys
import traceback

from pytest_diffspeed.arms.gpu_cost.in_worker import count_here
from pytest_diffspeed.arms.gpu_cost.order import CountOrder


def main():
    answers = []
    for plain in json.loads(sys.argv[1]):
        try:
            answers.append(count_here(CountOrder.from_dict({"prompts": [], **plain})).to_json())
        except Exception as error:
            traceback.print_exc()
            answers.append({"refused": f"{type(error).__name__}: {error}"})
    print("\n" + json.dumps(answers))


if __name__ == "__main__":
    main()

"""The zero-code suite: what each technique buys on a pipeline.

    pytest --diffspeed --pyargs pytest_diffspeed.ladder

``--diffspeed-pipeline`` chooses the pipeline and ``--diffspeed-techniques`` the stacks.
"""

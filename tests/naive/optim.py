"""Optimizer steps in float64, one number at a time, as torch's documentation writes them; imports nothing of ours."""

from math import sqrt


class Sgd:
    def __init__(self, rate, momentum=0.0, nesterov=False):
        self.rate, self.momentum, self.nesterov, self.v = rate, momentum, nesterov, 0.0

    def step(self, p, g):
        self.v = self.momentum * self.v + g
        if self.nesterov:
            g = g + self.momentum * self.v
        elif self.momentum:
            g = self.v
        return p - self.rate * g


class RmsProp:
    def __init__(self, rate, rho, epsilon, momentum=0.0):
        self.rate, self.rho, self.epsilon, self.momentum = rate, rho, epsilon, momentum
        self.s = self.v = 0.0

    def step(self, p, g):
        self.s = self.rho * self.s + (1 - self.rho) * g * g
        self.v = self.momentum * self.v + g / (sqrt(self.s) + self.epsilon)
        return p - self.rate * self.v


class Adam:
    def __init__(self, rate, beta1, beta2, epsilon, decay=0.0, penalty=0.0):
        self.rate, self.beta1, self.beta2, self.epsilon = rate, beta1, beta2, epsilon
        self.decay, self.penalty, self.m, self.s, self.t = decay, penalty, 0.0, 0.0, 0

    def step(self, p, g):
        self.t += 1
        p -= self.rate * self.decay * p
        g += self.penalty * p
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.s = self.beta2 * self.s + (1 - self.beta2) * g * g
        mean = self.m / (1 - self.beta1**self.t)
        square = self.s / (1 - self.beta2**self.t)
        return p - self.rate * mean / (sqrt(square) + self.epsilon)
